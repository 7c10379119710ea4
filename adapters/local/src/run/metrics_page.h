// run/metrics_page.h: the job's metrics on http://127.0.0.1:PORT/metrics, served by the controller's own thread.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "run/event_loop.h"

struct MHD_Daemon;

namespace thole::local {

class metrics_page {
 public:
  // port 0: any free one. Fails: SystemCallFailed (the port is in use).
  static result<std::unique_ptr<metrics_page>> open(event_loop &loop, uint16_t port, std::function<std::string()> text);
  ~metrics_page();
  uint16_t port() const noexcept { return port_; }
  std::string text() const { return text_(); }

 private:
  explicit metrics_page(event_loop &loop) : loop_(loop) {}
  event_loop &loop_;
  std::function<std::string()> text_;
  MHD_Daemon *daemon_ = nullptr;
  int descriptor_ = -1;
  uint16_t port_ = 0;
};

}  // namespace thole::local
