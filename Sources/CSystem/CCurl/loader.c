// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "CCurl.h"

#include <dlfcn.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>

// libcurl's header turns these names into type-checking macros.
#undef curl_easy_setopt
#undef curl_easy_getinfo
#undef curl_multi_setopt

#define FUNCTIONS(X)                                                                                              \
  X(curl_global_init) X(curl_version) X(curl_easy_strerror) X(curl_easy_init) X(curl_easy_cleanup)                \
  X(curl_easy_setopt) X(curl_easy_getinfo) X(curl_easy_pause) X(curl_slist_append) X(curl_slist_free_all)         \
  X(curl_multi_init) X(curl_multi_cleanup) X(curl_multi_setopt) X(curl_multi_add_handle) X(curl_multi_remove_handle)                 \
  X(curl_multi_perform) X(curl_multi_poll) X(curl_multi_wakeup) X(curl_multi_info_read)

// One pointer for each function, of the function's own type.
#define DECLARE(name) __typeof__(&name) name##_;
static struct { FUNCTIONS(DECLARE) } curl;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static char failure[512];

static void load(void) {
  void *library = dlopen("libcurl.so.4", RTLD_LAZY | RTLD_LOCAL);
  if (!library) {
    const char *reason = dlerror();
    snprintf(failure, sizeof failure, "open libcurl.so.4 (Debian package libcurl4): %s", reason ? reason : "no reason given");
    library = dlopen("libcurl-gnutls.so.4", RTLD_LAZY | RTLD_LOCAL);
    if (!library) return;
    failure[0] = 0;
  }
#define RESOLVE(name)                                                                                             \
  if (!(curl.name##_ = (__typeof__(&name))dlsym(library, #name))) {                                               \
    snprintf(failure, sizeof failure, "libcurl.so.4 has no function " #name ": version 7.68 or newer is needed"); \
    return;                                                                                                       \
  }
  FUNCTIONS(RESOLVE)
  CURLcode code = curl.curl_global_init_(CURL_GLOBAL_DEFAULT);
  if (code != CURLE_OK) snprintf(failure, sizeof failure, "initialise libcurl: code %d", (int)code);
}

const char *ccurl_load(void) {
  pthread_once(&once, load);
  return failure[0] ? failure : NULL;
}

const char *ccurl_version(void) { return curl.curl_version_(); }
const char *ccurl_easy_strerror(CURLcode code) { return curl.curl_easy_strerror_(code); }

CURL *ccurl_easy_init(void) { return curl.curl_easy_init_(); }
void ccurl_easy_cleanup(CURL *easy) { curl.curl_easy_cleanup_(easy); }

CURLcode ccurl_easy_set_long(CURL *easy, CURLoption option, long value) {
  return curl.curl_easy_setopt_(easy, option, value);
}

CURLcode ccurl_easy_set_size(CURL *easy, CURLoption option, curl_off_t value) {
  return curl.curl_easy_setopt_(easy, option, value);
}

CURLcode ccurl_easy_set_pointer(CURL *easy, CURLoption option, const void *value) {
  return curl.curl_easy_setopt_(easy, option, value);
}

CURLcode ccurl_easy_set_blob(CURL *easy, CURLoption option, const void *data, size_t size) {
  struct curl_blob blob = {.data = (void *)data, .len = size, .flags = CURL_BLOB_COPY};
  return curl.curl_easy_setopt_(easy, option, &blob);
}

CURLcode ccurl_easy_set_receive(CURL *easy, CURLoption option, ccurl_receive function) {
  return curl.curl_easy_setopt_(easy, option, function);
}

CURLcode ccurl_easy_resume(CURL *easy) { return curl.curl_easy_pause_(easy, CURLPAUSE_CONT); }

static int limit_silence(void *context, curl_socket_t socket, curlsocktype purpose) {
  (void)purpose;
  unsigned milliseconds = (unsigned)(uintptr_t)context;
  // Without it the connection lives as long as the kernel's retransmissions: a loss, not a fault.
  (void)setsockopt(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, &milliseconds, sizeof milliseconds);
  return CURL_SOCKOPT_OK;
}

CURLcode ccurl_easy_limit_silence(CURL *easy, unsigned milliseconds) {
  const struct { CURLoption option; long value; } numbers[] = {
      {CURLOPT_TCP_KEEPALIVE, 1}, {CURLOPT_TCP_KEEPIDLE, 30}, {CURLOPT_TCP_KEEPINTVL, 10}};
  CURLcode code = CURLE_OK;
  for (size_t i = 0; code == CURLE_OK && i < sizeof numbers / sizeof *numbers; i++)
    code = curl.curl_easy_setopt_(easy, numbers[i].option, numbers[i].value);
  if (code == CURLE_OK) code = curl.curl_easy_setopt_(easy, CURLOPT_SOCKOPTFUNCTION, limit_silence);
  if (code != CURLE_OK) return code;
  return curl.curl_easy_setopt_(easy, CURLOPT_SOCKOPTDATA, (void *)(uintptr_t)milliseconds);
}

CURLcode ccurl_easy_limit_protocols(CURL *easy) {
  // CURLOPT_PROTOCOLS (181) and CURLOPT_REDIR_PROTOCOLS (182) by number: their names are deprecated, and what
  // replaces them came with 7.85, later than the libcurl of Ubuntu 22.04.
  const long web = 1L /* CURLPROTO_HTTP */ | 2L /* CURLPROTO_HTTPS */;
  CURLcode code = curl.curl_easy_setopt_(easy, (CURLoption)181, web);
  return code == CURLE_OK ? curl.curl_easy_setopt_(easy, (CURLoption)182, web) : code;
}

CURLcode ccurl_easy_get_long(CURL *easy, CURLINFO info, long *value) {
  return curl.curl_easy_getinfo_(easy, info, value);
}

CURLcode ccurl_easy_get_size(CURL *easy, CURLINFO info, curl_off_t *value) {
  return curl.curl_easy_getinfo_(easy, info, value);
}

CURLcode ccurl_easy_get_pointer(CURL *easy, CURLINFO info, void **value) {
  return curl.curl_easy_getinfo_(easy, info, value);
}

struct curl_slist *ccurl_slist_append(struct curl_slist *list, const char *text) {
  return curl.curl_slist_append_(list, text);
}

void ccurl_slist_free_all(struct curl_slist *list) { curl.curl_slist_free_all_(list); }

CURLM *ccurl_multi_init(void) { return curl.curl_multi_init_(); }
CURLMcode ccurl_multi_cleanup(CURLM *multi) { return curl.curl_multi_cleanup_(multi); }

CURLMcode ccurl_multi_set_long(CURLM *multi, CURLMoption option, long value) {
  return curl.curl_multi_setopt_(multi, option, value);
}

CURLMcode ccurl_multi_add_handle(CURLM *multi, CURL *easy) { return curl.curl_multi_add_handle_(multi, easy); }
CURLMcode ccurl_multi_remove_handle(CURLM *multi, CURL *easy) { return curl.curl_multi_remove_handle_(multi, easy); }
CURLMcode ccurl_multi_perform(CURLM *multi, int *running) { return curl.curl_multi_perform_(multi, running); }

CURLMcode ccurl_multi_poll(CURLM *multi, int timeout_ms) {
  return curl.curl_multi_poll_(multi, NULL, 0, timeout_ms, NULL);
}

CURLMcode ccurl_multi_wakeup(CURLM *multi) { return curl.curl_multi_wakeup_(multi); }

CURL *ccurl_multi_next_done(CURLM *multi, CURLcode *result) {
  int left = 0;
  CURLMsg *message;
  while ((message = curl.curl_multi_info_read_(multi, &left))) {
    if (message->msg != CURLMSG_DONE) continue;
    *result = message->data.result;
    return message->easy_handle;
  }
  return NULL;
}

