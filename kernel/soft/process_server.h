// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "kernel/soft/process_channel.h"
#include "kernel/soft/soft_kernel.h"

namespace faultline::soft {

/// The kernel process: every open file is a connection, every process that uses one has a session
/// on it, served by a thread of its own. Nothing that a client sends, leaves out, or does by dying
/// harms the kernel or another client.
class ProcessServer {
 public:
  /// root   connection on which sessions may open files; owned
  ProcessServer(SoftKernel& kernel, int root);
  ~ProcessServer();
  ProcessServer(const ProcessServer&) = delete;
  ProcessServer& operator=(const ProcessServer&) = delete;

  /// Serve until the root and every file are closed.
  void run();

 private:
  struct Session {
    explicit Session(int socket) : fd(socket) {}
    ~Session();
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;
    int fd;
  };
  struct Connection {
    FilePtr file;    ///< null: the root
    ino_t peer = 0;  ///< inode of the client's end: how a passed descriptor is recognised
    std::vector<std::weak_ptr<Session>> sessions;
  };

  int connect(const FilePtr& file);
  bool adopt(int server_end, const FilePtr& file, ino_t peer);
  void on_message(int fd);
  void drop(int fd);
  bool known(int fd);
  void settle();
  FilePtr tracked(FilePtr file);
  void serve(const Session& session, const FilePtr& file);
  bool serve_one(int socket, const FilePtr& file, const MessageHeader& header,
                 std::vector<std::byte> payload, Descriptors& fds);
  FilePtr find(int fd);

  SoftKernel& kernel_;
  int epoll_ = -1;
  std::mutex events_;  ///< around looking at a connection and dropping it; before mutex_
  std::mutex mutex_;
  std::condition_variable idle_;
  std::map<int, Connection> connections_;
  std::size_t sessions_ = 0;
  std::size_t files_ = 0;  ///< opened and not yet closed by the kernel
};

}  // namespace faultline::soft
