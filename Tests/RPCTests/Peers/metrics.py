# SPDX-License-Identifier: Apache-2.0
"""metrics.py FILE: reads Prometheus text with prometheus_client, prints one JSON object of its families."""

import json
import sys

from prometheus_client.parser import text_string_to_metric_families

with open(sys.argv[1], encoding="utf-8") as file:
    families = {
        family.name: {
            "type": family.type,
            "help": family.documentation,
            "labels": sorted({value for sample in family.samples for value in sample.labels.values()}),
        }
        for family in text_string_to_metric_families(file.read())
    }
print(json.dumps(families))
