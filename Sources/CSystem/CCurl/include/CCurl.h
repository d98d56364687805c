// SPDX-License-Identifier: Apache-2.0
//
// libcurl, opened with dlopen when the first request is made: a process that speaks no HTTP never pays for the
// thirty libraries that it loads. Only types and constants come from libcurl's header; its functions are reached through
// the wrappers below, which also give Swift a typed form of the variadic curl_easy_setopt and curl_easy_getinfo.

#pragma once

#include <curl/curl.h>
#include <stddef.h>

typedef size_t (*ccurl_receive)(char *data, size_t size, size_t count, void *context);

// Opens the library once for the process. Returns NULL, or what went wrong as a text that lives as long as the process.
// May be called from any thread. Everything below may be called only after it has returned NULL.
const char *ccurl_load(void);

const char *ccurl_version(void);
const char *ccurl_easy_strerror(CURLcode code);

CURL *ccurl_easy_init(void);
void ccurl_easy_cleanup(CURL *easy);
CURLcode ccurl_easy_set_long(CURL *easy, CURLoption option, long value);
CURLcode ccurl_easy_set_size(CURL *easy, CURLoption option, curl_off_t value);
CURLcode ccurl_easy_set_pointer(CURL *easy, CURLoption option, const void *value);
// Copies the bytes. CURLE_UNKNOWN_OPTION or CURLE_NOT_BUILT_IN where this libcurl takes no blobs of that kind.
CURLcode ccurl_easy_set_blob(CURL *easy, CURLoption option, const void *data, size_t size);
CURLcode ccurl_easy_set_receive(CURL *easy, CURLoption option, ccurl_receive function);
// Lets data come again after a receiver returned CURL_WRITEFUNC_PAUSE; may call the receiver.
CURLcode ccurl_easy_resume(CURL *easy);
// Ends the request's connection where the other side acknowledges nothing for so many milliseconds, also while nothing is
// sent: the kernel asks then (keepalive).
CURLcode ccurl_easy_limit_silence(CURL *easy, unsigned milliseconds);
// http and https alone, for the first request and for redirects.
CURLcode ccurl_easy_limit_protocols(CURL *easy);
CURLcode ccurl_easy_get_long(CURL *easy, CURLINFO info, long *value);
CURLcode ccurl_easy_get_size(CURL *easy, CURLINFO info, curl_off_t *value);
CURLcode ccurl_easy_get_pointer(CURL *easy, CURLINFO info, void **value);

// Copies the text. NULL where memory ran out: the list is then as it was.
struct curl_slist *ccurl_slist_append(struct curl_slist *list, const char *text);
void ccurl_slist_free_all(struct curl_slist *list);

CURLM *ccurl_multi_init(void);
CURLMcode ccurl_multi_cleanup(CURLM *multi);
CURLMcode ccurl_multi_set_long(CURLM *multi, CURLMoption option, long value);
CURLMcode ccurl_multi_add_handle(CURLM *multi, CURL *easy);
CURLMcode ccurl_multi_remove_handle(CURLM *multi, CURL *easy);
CURLMcode ccurl_multi_perform(CURLM *multi, int *running);
CURLMcode ccurl_multi_poll(CURLM *multi, int timeout_ms);
CURLMcode ccurl_multi_wakeup(CURLM *multi);
// The next transfer that has ended: its handle, or NULL where there is none, and in *result how it ended.
CURL *ccurl_multi_next_done(CURLM *multi, CURLcode *result);
