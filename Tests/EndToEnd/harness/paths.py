"""The paths of the built binary and the test rig. Environment variables set by `make` change them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BINARY = Path(os.environ.get("VPC_CNI_BINARY", ROOT / ".build" / "install" / "vpc-cni"))
SIMULATOR = ROOT / "Tests" / "Simulator"

if str(SIMULATOR) not in sys.path:
    sys.path.insert(0, str(SIMULATOR))

# Paths of the contract, the same on every node.
PLUGIN = "/opt/cni/bin/aws-cni"
SUPPORT = "/opt/cni/bin/aws-cni-support.sh"
AGENT_SOCKET = "/var/run/aws-node/ipamd.sock"
CHECKPOINT = "/var/run/aws-node/ipam.json"
AGENT_LOG = "/var/log/aws-routed-eni/ipamd.log"
PLUGIN_LOG = "/var/log/aws-routed-eni/plugin.log"
