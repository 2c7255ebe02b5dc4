// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/top.h"

#include <fmt/format.h>
#include <ncursesw/ncurses.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <clocale>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <optional>
#include <utility>

#include "apps/faultline/status_socket.h"
#include "apps/faultline/top_view.h"

namespace faultline {
namespace {

constexpr Nanos kSecond = 1'000'000'000;
// No key is read while the service is waited for.
constexpr Nanos kPatience = kSecond;

volatile std::sig_atomic_t ended = 0;

/// curses would leave at once where nobody else handles these, and the service hear no goodbye.
void catch_ends() {
  struct sigaction action {};
  action.sa_handler = [](int) { ended = 1; };
  for (const int s : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(s, &action, nullptr);
}

struct ScreenEnd {
  void operator()(SCREEN* screen) const noexcept {
    ::endwin();
    ::delscreen(screen);
  }
};

/// The terminal is gone, and nobody was told by a signal.
bool keyboard_gone() {
  pollfd keyboard{STDIN_FILENO, POLLIN, 0};
  return ::poll(&keyboard, 1, 0) > 0 && (keyboard.revents & (POLLHUP | POLLERR | POLLNVAL)) != 0;
}

/// The letter that means the same.
int letter_of(int key) {
  return key == KEY_DOWN ? 'j' : key == KEY_UP ? 'k' : key;
}

void draw(const Lines& lines) {
  ::erase();
  for (std::size_t i = 0; i < lines.size(); ++i) {
    mvaddnstr(static_cast<int>(i), 0, lines[i].c_str(), static_cast<int>(lines[i].size()));
  }
  ::refresh();
}

class Top {
 public:
  Top(std::string socket, ServiceSocket service, metrics::Moment first)
      : socket_(std::move(socket)),
        service_(std::move(service)),
        before_(first),
        now_(std::move(first)) {}

  void run() {
    Nanos due = monotonic_ns() + kSecond;
    for (;;) {
      const auto height = static_cast<std::size_t>(std::max(0, getmaxy(stdscr)));
      const auto width = static_cast<std::size_t>(std::max(0, getmaxx(stdscr)));
      draw(top_lines(before_, now_, choice_, height, width));
      const Nanos now = monotonic_ns();
      ::timeout(now < due ? static_cast<int>((due - now) / 1'000'000) : 0);
      const int key = ::getch();
      if (ended != 0) return;
      if (key == ERR ? keyboard_gone() : !press(choice_, letter_of(key))) return;
      if (monotonic_ns() < due) continue;
      refresh_moment();
      due = monotonic_ns() + kSecond;
    }
  }

 private:
  void refresh_moment() {
    auto moment = ask();
    if (moment) {
      // Another life of the service has another beginning, and counts from 0.
      const bool same = moment->now - moment->uptime_ns == now_.now - now_.uptime_ns;
      before_ = same ? std::move(now_) : *moment;
      now_ = std::move(*moment);
      seen_ = monotonic_ns();
      choice_.trouble.clear();
      return;
    }
    service_.reset();
    const int code = moment.error().code;
    const bool absent = code == ENOENT || code == ECONNREFUSED;
    choice_.trouble =
        fmt::format("service   away for {} s, reconnecting: {}", (monotonic_ns() - seen_) / kSecond,
                    absent ? "nothing listens at " + socket_ : moment.error().message());
  }

  Result<metrics::Moment> ask() {
    if (!service_) {
      auto again = ServiceSocket::open(socket_, kPatience);
      if (!again) return tl::unexpected(again.error());
      service_.emplace(std::move(*again));
    }
    return ask_moment(*service_);
  }

  std::string socket_;
  std::optional<ServiceSocket> service_;
  metrics::Moment before_, now_;
  Nanos seen_ = monotonic_ns();  ///< the service, last
  TopChoice choice_;
};

}  // namespace

Result<void> top_command(const std::string& socket) {
  if (::isatty(STDOUT_FILENO) == 0 || ::isatty(STDIN_FILENO) == 0) {
    return fail(0, "top draws on a terminal; use faultline status for a file or a pipe");
  }
  auto service = ServiceSocket::open(socket);
  if (!service) return tl::unexpected(service.error());
  auto first = ask_moment(*service);
  if (!first) return tl::unexpected(first.error());
  service->set_patience(kPatience);
  std::setlocale(LC_ALL, "");
  catch_ends();
  const std::unique_ptr<SCREEN, ScreenEnd> screen(::newterm(nullptr, stdout, stdin));
  if (screen == nullptr) return fail(0, "TERM names no terminal that is known here");
  ::cbreak();
  ::noecho();
  ::keypad(stdscr, TRUE);
  ::curs_set(0);
  Top(socket, std::move(*service), std::move(*first)).run();
  return {};
}

}  // namespace faultline
