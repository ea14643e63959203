"""The console: a web page that shows the mesh live, served by a process of its own.

The **feed** hears what routers show of themselves and asks for it; the **picture** is what was heard, as rows of tables
(routers, workers, queues, models, gateways, broker); the **revisions** know which row changed when, so that a page is
sent what it has not seen; the **series** are the last minutes as points of plots; **events** is the stream to one page.
"""
