"""Dead letters: the requests that were given up, read, asked again or thrown away by a person.

- **letter** (`letter`): one of them, by its number in the stream; **wanted** (`letter`): which ones are meant.
- **page** (`page`): some letters in one answer of the broker.
- **letters** (`letters`): all of them on a broker, read page by page.
- **replay** (`replay`): the request of a letter, asked again.
"""
