COPY {staging} ({names}) FROM STDIN (FORMAT csv)
