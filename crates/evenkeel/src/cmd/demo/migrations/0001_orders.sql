CREATE TABLE orders (
  id    bigint  PRIMARY KEY,
  name  text    NOT NULL,
  cents integer NOT NULL
);
