// SPDX-License-Identifier: Apache-2.0
// Nothing to import: the definitions are there for the linker (arguments.c).
