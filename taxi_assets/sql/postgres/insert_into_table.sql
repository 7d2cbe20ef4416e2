INSERT INTO {target} ({names}) {new_rows}
