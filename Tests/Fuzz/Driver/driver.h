// SPDX-License-Identifier: Apache-2.0
// The entry point of libclang_rt.fuzzer_no_main, which no installed header declares.
// Source: https://llvm.org/docs/LibFuzzer.html, "Using libFuzzer as a library"
#pragma once
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*one_input)(const uint8_t *data, size_t size));
// Changes the bytes at random once; returns the new size, at most `maximum`.
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t maximum);
