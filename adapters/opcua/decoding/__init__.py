"""From raw bytes to the gateway's batches. Pure.

`envelope`: responses; `walk`, `layouts`, `decode`: items into columns; `variant`, `fallback`: values of rarer types;
`structures`: a server's own. `batches`: types, times, flags, and what a queue lost; `clocks`: whose clock is wrong.
"""
