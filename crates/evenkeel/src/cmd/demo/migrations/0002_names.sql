ALTER TABLE orders
  ADD COLUMN first_name text NOT NULL, -- up: split_part(name, ' ', 1)
  ADD COLUMN last_name  text NOT NULL, -- up: split_part(name, ' ', 2)
  DROP COLUMN name, -- down: first_name || ' ' || last_name
  ALTER COLUMN cents TYPE bigint;
