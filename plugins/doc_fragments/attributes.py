# -*- coding: utf-8 -*-

# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""The attributes every module of this collection documents."""

from __future__ import annotations


class ModuleDocFragment:
    """Attributes: check mode, diff mode, idempotence, action group."""

    # Modules say with ``support`` (and ``details``) how far each goes.
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying the target.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
      - This assumes that the system controlled or queried by the module has not changed in a relevant way.
"""

    # For modules that only look: they belong to check mode and never change anything.
    INFO_MODULE = r"""
options: {}
attributes:
  check_mode:
    support: full
    details:
      - This module does not modify state.
  diff_mode:
    support: N/A
    details:
      - This module does not modify state.
  idempotent:
    support: full
    details:
      - This module does not modify state.
"""

    ACTIONGROUP_MIGRATION = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/dcs.migration.migration) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - dcs.migration.migration
"""
