# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Argument specs that several modules share; the words to them are in ``plugins/doc_fragments/``."""

from __future__ import annotations

from typing import Any, Dict

PROVIDERS = ["dcs", "self_hosted", "other"]
TOPOLOGIES = ["auto", "single", "master_standby", "proxy_cluster", "redis_cluster"]

Spec = Dict[str, Any]


def endpoint_spec(described: bool = False) -> Spec:
    """The sub-options of one Redis deployment.

    ``described`` allows a deployment that is not there (yet): addresses may be left out, version is added.
    """
    spec: Spec = {
        "addresses": {"type": "list", "elements": "str", "required": not described},
        "username": {"type": "str"},
        "password": {"type": "str", "no_log": True},
        "provider": {"type": "str", "choices": PROVIDERS, "default": "self_hosted"},
        "topology": {"type": "str", "choices": TOPOLOGIES, "default": "auto"},
        "tls": {"type": "bool", "default": False},
        "ca_certs": {"type": "path"},
        "client_cert": {"type": "path"},
        "client_key": {"type": "path", "no_log": False},  # a path
        "validate_certs": {"type": "bool", "default": True},
        "sentinel_service": {"type": "str"},
        "shards": {"type": "list", "elements": "str"},
    }
    if described:
        del spec["addresses"]["required"]
        spec["version"] = {"type": "str"}
    return spec


def endpoint_option(required: bool = True, described: bool = False) -> Spec:
    """One option that is an endpoint: ``source``, ``target``, ``instance``."""
    option: Spec = {"type": "dict", "options": endpoint_spec(described)}
    if required:
        option["required"] = True
    return option


def bucket_spec() -> Spec:
    """Access to an S3-compatible bucket; what is left out comes from the AWS environment variables or profile."""
    return {
        "bucket": {"type": "str"},
        "prefix": {"type": "str"},
        "endpoint_url": {"type": "str"},
        "region": {"type": "str"},
        "access_key": {"type": "str", "no_log": True},
        "secret_key": {"type": "str", "no_log": True},
        "session_token": {"type": "str", "no_log": True},
        "profile": {"type": "str"},
        "validate_certs": {"type": "bool", "default": True},
    }
