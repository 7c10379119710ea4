#include "run/metrics_page.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>

#include "base/text.h"

namespace thole::local {
namespace {

constexpr const char *content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";

MHD_Result answer(void *self, MHD_Connection *connection, const char *url, const char *method, const char *,
                  const char *, size_t *, void **) {
  const auto *page = static_cast<const metrics_page *>(self);
  const bool good = std::strcmp(url, "/metrics") == 0 && std::strcmp(method, "GET") == 0;
  const std::string body = good ? page->text() : "see /metrics\n";
  MHD_Response *response =
      MHD_create_response_from_buffer(body.size(), const_cast<char *>(body.data()), MHD_RESPMEM_MUST_COPY);
  if (response == nullptr) return MHD_NO;
  MHD_add_response_header(response, "Content-Type", good ? content_type : "text/plain");
  const MHD_Result queued = MHD_queue_response(connection, good ? MHD_HTTP_OK : MHD_HTTP_NOT_FOUND, response);
  MHD_destroy_response(response);
  return queued;
}

}  // namespace

result<std::unique_ptr<metrics_page>> metrics_page::open(event_loop &loop, uint16_t port,
                                                         std::function<std::string()> text) {
  std::unique_ptr<metrics_page> page(new metrics_page(loop));
  page->text_ = std::move(text);
  sockaddr_in loopback{};
  loopback.sin_family = AF_INET;
  loopback.sin_port = htons(port);
  loopback.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  page->daemon_ =
      MHD_start_daemon(MHD_USE_EPOLL, port, nullptr, nullptr, answer, page.get(), MHD_OPTION_SOCK_ADDR, &loopback,
                       MHD_OPTION_CONNECTION_LIMIT, 16u, MHD_OPTION_CONNECTION_TIMEOUT, 10u, MHD_OPTION_END);
  if (page->daemon_ == nullptr)
    return fail(reason::SystemCallFailed,
                "port {} of 127.0.0.1 cannot be used for the metrics: choose another with --metrics-port", port);
  const MHD_DaemonInfo *epoll = MHD_get_daemon_info(page->daemon_, MHD_DAEMON_INFO_EPOLL_FD);
  const MHD_DaemonInfo *bound = MHD_get_daemon_info(page->daemon_, MHD_DAEMON_INFO_BIND_PORT);
  if (epoll == nullptr || bound == nullptr) return fail(reason::SystemCallFailed, "the metrics page cannot be watched");
  page->port_ = bound->port;
  page->descriptor_ = epoll->epoll_fd;
  MHD_Daemon *daemon = page->daemon_;
  loop.watch(page->descriptor_, [daemon] { MHD_run(daemon); });
  return page;
}

metrics_page::~metrics_page() {
  if (daemon_ == nullptr) return;
  if (descriptor_ >= 0) loop_.forget(descriptor_);
  MHD_stop_daemon(daemon_);
}

}  // namespace thole::local
