# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Which commands there are, and where their keys stand: data for :mod:`.commands`.

Redis 2.8 to 8.10 and Valkey up to 9.1. ``tests/unit/codec/test_commands.py`` compares it with what servers answer to ``COMMAND``; what
came after Redis 8.0 is taken from ``src/commands/*.json`` in redis/redis.
"""

from __future__ import annotations

from typing import Dict, Tuple

# Positions as COMMAND gives them: first key, last key (negative: from the end), step.
Range = Tuple[int, int, int]

# Commands that can change data, by the range of their keys.
WRITES: Dict[Range, str] = {
    (1, 1, 1): """
        append decr decrby delex delifeq gcra getdel getex getset incr incrby incrbyfloat increx psetex set setex setnx
        setrange setbit bitfield
        expire expireat pexpire pexpireat persist restore restore-asking pfadd pfcount
        lpush rpush lpushx rpushx lpop rpop linsert lset lrem ltrim
        sadd srem spop
        zadd zincrby zrem zremrangebyscore zremrangebyrank zremrangebylex zpopmin zpopmax geoadd
        hset hsetnx hmset hincrby hincrbyfloat hdel hgetdel hgetex hsetex
        hexpire hpexpire hexpireat hpexpireat hpersist
        xadd xdel xtrim xsetid xack xclaim xautoclaim xdelex xackdel xnack xcfgset xidmprecord
        arset armset ardel ardelrange arinsert arring arseek
        vadd vrem vsetattr
    """,
    (1, -1, 1): "del unlink sinterstore sunionstore sdiffstore pfmerge",
    (1, -1, 2): "mset msetnx",
    (1, 2, 1): """
        rename renamenx smove rpoplpush brpoplpush lmove blmove lmovem blmovem copy geosearchstore zrangestore
    """,
    (2, -1, 1): "bitop",
    (1, -2, 1): "blpop brpop bzpopmin bzpopmax",
}

# Commands that only look. (TOUCH and EXISTS too: what they change is no data.)
READS: Dict[Range, str] = {
    (1, 1, 1): """
        get getrange getbit bitcount bitpos bitfield_ro substr strlen digest dump type ttl pttl expiretime pexpiretime
        lindex llen lrange lpos scard sismember smismember smembers srandmember sscan
        zcard zcount zlexcount zmscore zrandmember zrange zrangebylex zrangebyscore zrank zrevrange zrevrangebylex zrevrangebyscore
        zrevrank zscan zscore geodist geohash geopos geosearch georadius_ro georadiusbymember_ro
        hexists hget hgetall hkeys hlen hmget hrandfield hscan hstrlen hvals httl hpttl hexpiretime hpexpiretime
        xlen xpending xrange xrevrange sort_ro
        arget argetrange armget arlen arcount arinfo argrep arlastitems arnext arop arscan
        vcard vdim vemb vgetattr vinfo vismember vlinks vrandmember vrange vsim
    """,
    (1, -1, 1): "exists touch mget sinter sunion sdiff watch",
    (1, 2, 1): "lcs",
}

# Where the number of keys stands, positions of keys before it, step from key to key.
NumKeys = Tuple[int, Tuple[int, ...], int]

NUMKEYS_WRITES: Dict[NumKeys, str] = {
    (1, (), 1): "lmpop zmpop",
    (1, (), 2): "msetex",
    (2, (), 1): "blmpop bzmpop eval evalsha fcall",
    (2, (1,), 1): "zunionstore zinterstore zdiffstore",
}
NUMKEYS_READS: Dict[NumKeys, str] = {
    (1, (), 1): "zunion zinter zdiff zintercard sintercard sunioncard sdiffcard",
    (2, (), 1): "eval_ro evalsha_ro fcall_ro",
}

# The key is argument 2, behind the subcommand. What only looks or has no key is left out: "object help".
SUBCOMMAND_WRITES = {
    "xgroup": "create setid destroy createconsumer delconsumer",
    "himport": "set",
}
SUBCOMMAND_READS = {
    "xinfo": "stream groups consumers",
    "object": "encoding freq idletime refcount",
    "memory": "usage",
}

# Commands of which one key alone is written, and that key's position.
WRITTEN: Dict[int, str] = {
    1: "sinterstore sunionstore sdiffstore zunionstore zinterstore zdiffstore pfmerge geosearchstore zrangestore",
    2: "bitop copy",
}

# Commands on several keys that do the same to each: they may be cut by slot, shard or filter. Arguments per key.
SPLITTABLE: Dict[int, str] = {1: "del unlink exists touch", 2: "mset"}

EVERY_MASTER = "flushall flushdb swapdb script function"
DATABASE = "select move"
TRANSACTION = "multi exec discard"
# No data, or of this one server only.
DROPPED = """
    acl asking auth backup bgrewriteaof bgsave client cluster clusterscan command commandlog config dbsize debug echo failover hello
    hotkeys info keys lastsave latency lolwut module monitor pfdebug pfselftest ping psubscribe psync publish pubsub punsubscribe quit
    randomkey readonly readwrite replconf replicaof reset role save scan shutdown slaveof slowlog spublish ssubscribe stralgo
    subscribe sunsubscribe sync time trimslots unsubscribe unwatch wait waitaof
"""
