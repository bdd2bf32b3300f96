"""How a run is watched by programs, and from afar: Prometheus, StatsD, the status page, logs.

Everything here looks over the coordinator's shoulder. It has threads of its own, drops rather than waits, and what
fails in it changes no download (invariant I8). It decides nothing and writes nothing into the ledger.

::

    rolling       rates over a window, and a curve of bounded length: pure
    performance   a record now and then, and when it calls for an alert: pure
    figures       everything that is known at one moment, and its JSON form: pure
    gatherer      collects figures in a thread
    aside         something that may take long, done in a thread of its own
    prometheus    figures as Prometheus reads them
    statsd        figures pushed to a StatsD server
    server        /metrics, /healthz, /status and the page, on one port
    page          the status page
    records       what becomes a line of the log
    logs          lines of JSON and lines for people, in files that are rotated
    observatory   puts together what the settings ask for
"""
