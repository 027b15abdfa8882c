-- The centre's database. Rows are narrow; the view `readings` shows them with all their names.
CREATE TABLE IF NOT EXISTS sources (
  source INTEGER PRIMARY KEY, enterprise TEXT NOT NULL, gateway TEXT NOT NULL, stream TEXT NOT NULL,
  device TEXT NOT NULL, UNIQUE (enterprise, gateway, stream, device));
CREATE TABLE IF NOT EXISTS points (
  ref INTEGER PRIMARY KEY, enterprise TEXT NOT NULL, gateway TEXT NOT NULL, device TEXT NOT NULL, p TEXT NOT NULL,
  id TEXT, UNIQUE (enterprise, gateway, device, p, id));
CREATE TABLE IF NOT EXISTS messages (
  message INTEGER PRIMARY KEY, topic TEXT NOT NULL, received_at INTEGER NOT NULL, schema TEXT NOT NULL, lane TEXT,
  catalogue INTEGER, bytes INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS reading_rows (
  source INTEGER NOT NULL, n INTEGER NOT NULL, point INTEGER NOT NULL, t_ns INTEGER NOT NULL, value TEXT NOT NULL,
  status INTEGER NOT NULL, basis INTEGER NOT NULL, flags INTEGER NOT NULL, message INTEGER NOT NULL,
  original TEXT, PRIMARY KEY (source, n)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
  source INTEGER NOT NULL, n INTEGER NOT NULL, schema TEXT NOT NULL, time TEXT NOT NULL, body TEXT NOT NULL,
  message INTEGER NOT NULL, PRIMARY KEY (source, n)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS duplicates (
  source INTEGER NOT NULL, n INTEGER NOT NULL, times INTEGER NOT NULL, PRIMARY KEY (source, n)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS conflicts (
  source INTEGER NOT NULL, n INTEGER NOT NULL, stored TEXT NOT NULL, came TEXT NOT NULL, message INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS catalogues (
  enterprise TEXT NOT NULL, gateway TEXT NOT NULL, device TEXT NOT NULL, part INTEGER NOT NULL,
  version INTEGER NOT NULL, parts INTEGER NOT NULL, received_at INTEGER NOT NULL, body TEXT NOT NULL,
  PRIMARY KEY (enterprise, gateway, device, part));
CREATE TABLE IF NOT EXISTS catalogue_points (
  enterprise TEXT NOT NULL, gateway TEXT NOT NULL, device TEXT NOT NULL, idx INTEGER NOT NULL, p TEXT NOT NULL,
  id TEXT, tag TEXT, name TEXT, unit TEXT, type TEXT, stream TEXT, body TEXT NOT NULL,
  PRIMARY KEY (enterprise, gateway, device, idx));
CREATE TABLE IF NOT EXISTS catalogue_versions (
  enterprise TEXT NOT NULL, gateway TEXT NOT NULL, device TEXT NOT NULL, version INTEGER NOT NULL,
  PRIMARY KEY (enterprise, gateway, device));
CREATE TABLE IF NOT EXISTS accounts (
  account INTEGER PRIMARY KEY, enterprise TEXT NOT NULL, gateway TEXT NOT NULL, destination TEXT NOT NULL,
  number INTEGER NOT NULL, time TEXT NOT NULL, time_ns INTEGER NOT NULL, period TEXT NOT NULL, complete_until TEXT, received_at INTEGER NOT NULL,
  body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS account_entries (
  account INTEGER NOT NULL, device TEXT NOT NULL, stream TEXT NOT NULL, first_n INTEGER NOT NULL, last_n INTEGER,
  accepted INTEGER NOT NULL, delivered INTEGER NOT NULL, withheld INTEGER NOT NULL, parked INTEGER NOT NULL,
  waiting INTEGER NOT NULL, dropped TEXT NOT NULL, complete_n INTEGER NOT NULL,
  PRIMARY KEY (account, device, stream)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS status (
  enterprise TEXT NOT NULL, gateway TEXT NOT NULL, received_at INTEGER NOT NULL, state TEXT NOT NULL,
  retained INTEGER NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS health (
  enterprise TEXT NOT NULL, gateway TEXT NOT NULL, received_at INTEGER NOT NULL, body TEXT NOT NULL,
  PRIMARY KEY (enterprise, gateway));
CREATE TABLE IF NOT EXISTS images (
  enterprise TEXT NOT NULL, gateway TEXT NOT NULL, device TEXT NOT NULL, p TEXT NOT NULL, id TEXT, stream TEXT NOT NULL,
  t_ns INTEGER NOT NULL, value TEXT NOT NULL, status INTEGER NOT NULL, basis INTEGER NOT NULL, flags INTEGER NOT NULL,
  original TEXT, taken TEXT NOT NULL, PRIMARY KEY (enterprise, gateway, device, p));
CREATE TABLE IF NOT EXISTS errors (kind TEXT PRIMARY KEY, count INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS error_samples (
  kind TEXT NOT NULL, received_at INTEGER NOT NULL, topic TEXT NOT NULL, detail TEXT NOT NULL, start TEXT NOT NULL);
DROP VIEW IF EXISTS readings;
CREATE VIEW readings AS
  SELECT s.enterprise, s.gateway, s.stream, s.device, r.n, p.p AS point, p.id, r.t_ns, r.value,
    CASE r.status >> 30 WHEN 0 THEN 'good' WHEN 1 THEN 'uncertain' ELSE 'bad' END AS quality,
    r.status, r.basis, r.flags, m.lane, m.received_at, r.message, m.catalogue, r.original
  FROM reading_rows r JOIN sources s USING (source) JOIN points p ON p.ref = r.point JOIN messages m USING (message);
