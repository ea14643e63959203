"""What the spans of a request say, without any other backend.

- **memory** (`memory`): the spans of recent requests, bounded in bytes; the oldest request is forgotten first.
- **facts** (`facts`): what of the spans of one request matters for its time and its end.
- **causes** (`explain`): the facts in words, what explains most first.
- **waterfall** (`waterfall`): the spans of one request as lines of text.
"""
