"""Point tables (点表): Excel and CSV sheets to and from the points of device files.

`sheets` reads and writes files, `headings` finds the columns, `words` knows what people call types and byte orders,
`convert` makes points of rows, `kepware` knows KEPServerEX's export, `changes` compares with the config, `naming` makes
local names, `edit` changes device files without touching what is not changed. Only `edge-gateway points` imports it.
"""
