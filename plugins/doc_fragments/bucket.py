# -*- coding: utf-8 -*-

# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Access to an S3-compatible bucket (OBS, S3, MinIO, ...)."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of ``_argspec.bucket_spec``."""

    DOCUMENTATION = r"""
options:
  bucket:
    description:
      - Name of the bucket.
    type: str
  prefix:
    description:
      - What the object names begin with, for example V(backups/2026-01-31/).
    type: str
  endpoint_url:
    description:
      - URL of the S3-compatible service, for example V(https://obs.eu-de.otc.t-systems.com).
      - If left out, the environment variable E(AWS_ENDPOINT_URL) or the profile decides, and finally AWS itself.
    type: str
  region:
    description:
      - Region of the bucket.
      - If left out, the environment variable E(AWS_DEFAULT_REGION) or the profile decides.
    type: str
  access_key:
    description:
      - Access key ID.
      - If left out together with O(secret_key), the environment variables E(AWS_ACCESS_KEY_ID) and
        E(AWS_SECRET_ACCESS_KEY), the profile, or the role of the machine are used.
    type: str
  secret_key:
    description:
      - Secret access key that belongs to O(access_key).
    type: str
  session_token:
    description:
      - Session token of temporary credentials.
      - If left out, the environment variable E(AWS_SESSION_TOKEN) is used.
    type: str
  profile:
    description:
      - Profile of the shared AWS configuration files to take credentials, region and endpoint from.
      - If left out, the environment variable E(AWS_PROFILE) decides.
    type: str
  validate_certs:
    description:
      - Whether the TLS certificate of the service must be valid.
    type: bool
    default: true
requirements:
  - boto3 >= 1.34.0 (Python library)
"""
