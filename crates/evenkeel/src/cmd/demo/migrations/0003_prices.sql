ALTER TABLE orders
  ADD COLUMN price numeric NOT NULL, -- up: cents / 100.0
  DROP COLUMN cents; -- down: (price * 100)::bigint
