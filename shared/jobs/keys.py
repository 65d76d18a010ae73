"""Every key that the suite keeps in Redis: its type, who writes it, who reads it, how long it lives.

All names below follow the deployment's prefix, ``{kiosk}:`` by default. The braces are a hash tag: a script may
touch several job types at once, so on Redis Cluster all keys of one deployment share one slot.

A *job id* is ``<type>:<32 hex digits>``, for a child ``<type>:<hex of its parent>.<number>``; the scripts derive
every other name from it. An upload is named by its key in storage; *sum* is the SHA-256 of its bytes and the ending of
its name: equal uploads of one owner share the object of the first. Times are milliseconds since 1970, by the clock of the Redis server.

| key                     | type   | written by                 | read by               | life                           |
|-------------------------|--------|----------------------------|-----------------------|--------------------------------|
| job:<id>                | hash   | submit, then every script  | everybody             | until forgotten by the janitor |
| history:<id>            | list   | reclaim, evict, fail       | bury, auditor         | with its job                   |
| children:<id>           | list   | split                      | gather, cancel, forget| with its job                   |
| open:<id>               | string | split, child-finished      | child-finished        | until the last child ended     |
| queue:<type>            | zset   | enqueue, claim, cancel     | claim                 | while an owner has waiting jobs: owner by turn |
| queue:<type>:<owner>    | zset   | enqueue, claim, cancel     | claim                 | while jobs wait: id by priority, then order    |
| delayed:<type>          | zset   | fail (to try again later)  | claim, janitor        | until due: id by time          |
| depth:<type>            | string | enqueue, claim, cancel     | autoscaler, frontend  | for ever; jobs waiting, the delayed among them |
| leases:<type>           | zset   | claim, renew, all endings  | janitor, autoscaler   | while jobs run: id by deadline |
| held:<worker>           | set    | claim, all endings         | janitor, autoscaler   | while the worker holds jobs    |
| workers                 | zset   | heartbeat                  | janitor, autoscaler   | worker by the time its word runs out           |
| worker:<worker>         | hash   | heartbeat                  | autoscaler, console   | a minute after its last heartbeat              |
| retiring                | set    | retire, unretire           | claim, autoscaler     | until the worker has gone      |
| idle:<type>             | zset   | claim that found nothing   | enqueue               | parked workers, by time; until woken           |
| dead:<type>             | zset   | bury                       | console, janitor      | id by time; until forgotten or revived         |
| expiry                  | zset   | every ending, expire       | janitor               | root job ids by the time they are forgotten; 0: that has begun |
| expire_after            | hash   | expire of an unfinished job| every ending          | id to seconds; until the job ends              |
| doomed                  | set    | forget, doom               | submit, janitor       | objects about to be deleted    |
| uses:<object>           | set    | submit, forget             | forget, janitor       | ids of the jobs that name the object, or the upload |
| content:<owner>:<sum>   | hash   | share                      | submit, forget, janitor | with the object that holds these bytes: its name under `object`; the name of each upload of them to its time, until its last job is forgotten or none came |
| upload:<name>           | hash   | share                      | submit, frontend      | with its name in content: (the object's own: with the object); `content` and the file's `name` for people |
| owned:<owner>           | zset   | submit, forget             | frontend              | root job ids of an owner by creation           |
| batch:<batch>           | zset   | submit, forget             | frontend              | job ids of a batch by creation |
| idempotency:<owner>:<k> | string | submit                     | submit                | id; with its job               |
| types                   | hash   | announce (consumers)       | frontend, autoscaler  | for ever; job type to its description as JSON  |
| models                  | string | announce_models (consumers)| frontend              | for ever; model to its versions, all as JSON   |
| kinds                   | set    | enqueue                    | janitor, auditor      | for ever; every job type that had a job        |
| turn:<work>             | string | janitors, one at a time    | janitors              | while it works; who has the turn; then a pause |
| sequence, turn          | string | enqueue, claim             | enqueue, claim        | for ever; counters             |
| wake:<worker>           | string | enqueue, cancel            | nobody: its event is the message | one second          |
| hint:autoscaler         | string | enqueue, all endings       | nobody: its event is the message | 50 ms               |
| hint:janitor            | string | fail, bury, cancel, expire | nobody: its event is the message | 50 ms               |
| autoscaler              | hash   | autoscaler                 | console, frontend     | for ever; target to its last decision as JSON  |
| auth:keys               | hash   | keys (console)             | frontend              | until revoked; id of an API key to its facts as JSON |
| auth:secret             | string | first frontend             | frontend              | for ever; signs sign-in cookies                |
| spent:<owner>:<hour>    | string | frontend                   | frontend              | two hours; bytes uploaded in that hour         |
| usage:<day>             | hash   | every ending               | console               | 400 days; <what>:<owner> to what the jobs used that ended on that day (UTC) |
| webhooks                | zset   | frontend                   | frontend              | while a job has calls to make: id by when another frontend may take over |
| schema                  | string | every service at its start | every service         | for ever; version of this table |
"""

from __future__ import annotations

#: Raised only by what an older version cannot live beside; each raise comes with a step in `shared.jobs.schema`.
SCHEMA_VERSION = 1

JOB, HISTORY, CHILDREN, OPEN = "job:", "history:", "children:", "open:"
QUEUE, DELAYED, DEPTH, LEASES = "queue:", "delayed:", "depth:", "leases:"
HELD, WORKERS, WORKER, RETIRING, IDLE = "held:", "workers", "worker:", "retiring", "idle:"
DEAD, EXPIRY, EXPIRE_AFTER, DOOMED, USES = "dead:", "expiry", "expire_after", "doomed", "uses:"
OWNED, BATCH, IDEMPOTENCY, TYPES, MODELS = "owned:", "batch:", "idempotency:", "types", "models"
CONTENT, UPLOAD = "content:", "upload:"
WAKE, HINT_AUTOSCALER, HINT_JANITOR = "wake:", "hint:autoscaler", "hint:janitor"
KINDS, TURN = "kinds", "turn:"
AUTOSCALER, SCHEMA = "autoscaler", "schema"
AUTH_KEYS, AUTH_SECRET, SPENT, WEBHOOKS = "auth:keys", "auth:secret", "spent:", "webhooks"
USAGE = "usage:"
