// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/top.h"

#include <ncursesw/ncurses.h>
#include <unistd.h>

#include <algorithm>
#include <clocale>
#include <cstdlib>
#include <memory>
#include <optional>
#include <utility>

#include "apps/faultline/status_socket.h"
#include "apps/faultline/top_view.h"

namespace faultline {
namespace {

constexpr Nanos kSecond = 1'000'000'000;

struct ScreenEnd {
  void operator()(SCREEN* screen) const noexcept {
    ::endwin();
    ::delscreen(screen);
  }
};

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
      const Nanos left = due - monotonic_ns();
      ::timeout(static_cast<int>(std::max<Nanos>(left, 0) / 1'000'000));
      if (const int key = ::getch(); key != ERR && !press(choice_, key)) return;
      if (monotonic_ns() < due) continue;
      refresh_moment();
      due = monotonic_ns() + kSecond;
    }
  }

 private:
  void refresh_moment() {
    if (!service_) {
      if (auto again = ServiceSocket::open(socket_)) service_ = std::move(*again);
    }
    if (service_) {
      if (auto moment = ask_moment(*service_)) {
        // Another life of the service has another beginning.
        before_ = moment->uptime_ns < now_.uptime_ns ? *moment : std::move(now_);
        now_ = std::move(*moment);
        choice_.trouble.clear();
        return;
      }
    }
    service_.reset();
    choice_.trouble = "reconnecting to " + socket_;
  }

  std::string socket_;
  std::optional<ServiceSocket> service_;
  metrics::Moment before_, now_;
  TopChoice choice_;
};

}  // namespace

Result<void> top_command(const std::string& socket) {
  if (::isatty(STDOUT_FILENO) == 0) {
    return fail(0, "top draws on a terminal; use faultline status for a file or a pipe");
  }
  auto service = ServiceSocket::open(socket);
  if (!service) return tl::unexpected(service.error());
  auto first = ask_moment(*service);
  if (!first) return tl::unexpected(first.error());
  std::setlocale(LC_ALL, "");
  const std::unique_ptr<SCREEN, ScreenEnd> screen(::newterm(nullptr, stdout, stdin));
  if (screen == nullptr) return fail(0, "TERM names no terminal that is known here");
  ::cbreak();
  ::noecho();
  ::curs_set(0);
  Top(socket, std::move(*service), std::move(*first)).run();
  return {};
}

}  // namespace faultline
