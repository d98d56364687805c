"""Formats results as tables for people."""

from __future__ import annotations

from typing import Any


def table(header: list[str], rows: list[list[Any]]) -> None:
    cells = [header, *[["" if each is None else str(each) for each in row] for row in rows]]
    widths = [max(len(row[at]) for row in cells) for at in range(len(header))]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def instance(described: dict[str, Any]) -> None:
    instances([described])


def instances(listed: list[dict[str, Any]]) -> None:
    table(["NAME", "ID", "TYPE", "SUBNET", "ADDRESS", "ENIS", "ADDRESSES"],
          [[each["name"], each["instance_id"], each["type"], each["subnet"], each["address"],
            f"{len(each['enis'])}/{each['interfaces_limit']}",
            sum(len(eni["addresses"]) + 16 * len(eni["prefixes"]) for eni in each["enis"])] for each in listed])


def interfaces(listed: list[dict[str, Any]]) -> None:
    table(["ENI", "INSTANCE", "DEVICE", "INDEX", "MAC", "STATUS", "SUBNET", "PRIMARY", "SECONDARY", "PREFIXES",
           "IPV6", "PREFIXES6"],
          [[each["eni"], each["instance"], each["device"], each["index"], each["mac"], each["status"], each["subnet"],
            each["primary"], len(each["addresses"]) - 1, len(each["prefixes"]),
            len(each["addresses6"]), len(each["prefixes6"])] for each in listed])


def subnets(listed: list[dict[str, Any]]) -> None:
    table(["NAME", "ID", "CIDR", "ZONE", "FREE", "CIDR6", "FREE/80"],
          [[each["name"], each["subnet_id"], each["cidr"], each["zone"], each["free"], each["cidr6"], each["free_prefixes6"]]
           for each in listed])


def counts(report: dict[str, Any]) -> None:
    table(["ACTION", "CALLS", "SUCCESSFUL", "REFUSED", "FAILED", "ERRORS"],
          [[action, row["calls"], row["successful"], row["refused"], row["failed"],
            " ".join(f"{code}×{count}" for code, count in row["errors"].items())]
           for action, row in report["actions"].items()] + [["total", report["total"], "", "", "", ""]])


def drops(report: dict[str, Any]) -> None:
    table(["DROPPED BECAUSE", "PACKETS"], [
        ["its ENI does not own the source", report["unowned_source"]],
        ["the source has no public address", report["no_public_address"]],
        ["nobody owns the destination (not in the total)", report["unassigned_destination"]],
        ["total", report["total"]]])
    flows = [[reason, each.get("instance"), each.get("eni"), each["device"], each["source"], each["destination"],
              each["packets"]] for reason, listed in report["flows"].items() for each in listed]
    if flows:
        print()
        table(["REASON", "INSTANCE", "ENI", "DEVICE", "SOURCE", "DESTINATION", "PACKETS"], flows)


def internet(report: dict[str, Any]) -> None:
    table(["SOURCE", "SEEN"], [[source, " ".join(f"{name}×{count}" for name, count in seen.items())]
                               for source, seen in report["sources"].items()])
