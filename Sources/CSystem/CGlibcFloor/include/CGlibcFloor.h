// Definitions that keep the binary's symbol versions at or below GLIBC_2.34, so that the plugin runs on the oldest node
// systems that Kubernetes still supports (docs/decisions/0003-static-linking.md). Nothing calls them by this header.
#pragma once
