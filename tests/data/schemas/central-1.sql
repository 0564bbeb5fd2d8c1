CREATE TABLE receipts (
  author TEXT NOT NULL, request_id TEXT NOT NULL, answer BLOB NOT NULL, time REAL NOT NULL,
  PRIMARY KEY (author, request_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX receipts_by_time ON receipts (time);
CREATE TABLE libraries (
  library INTEGER PRIMARY KEY AUTOINCREMENT, peer_id TEXT NOT NULL, abandoned REAL
) STRICT;
CREATE INDEX libraries_abandoned ON libraries (peer_id, library) WHERE abandoned IS NOT NULL;
CREATE TABLE peers (
  peer_id TEXT PRIMARY KEY, public_key BLOB NOT NULL,
  library INTEGER NOT NULL UNIQUE REFERENCES libraries,
  catalogue_version INTEGER NOT NULL DEFAULT 0, file_count INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE TABLE live (
  library INTEGER PRIMARY KEY REFERENCES libraries, peer_id TEXT NOT NULL UNIQUE REFERENCES peers,
  session_id TEXT NOT NULL UNIQUE, name TEXT NOT NULL, addresses TEXT NOT NULL, joined INTEGER NOT NULL,
  login_time REAL NOT NULL, free_bytes INTEGER NOT NULL,
  primary_peer TEXT NOT NULL, backup_peer TEXT NOT NULL
) STRICT;
CREATE TABLE ended_sessions (
  session_id TEXT PRIMARY KEY, peer_id TEXT NOT NULL, ended_as TEXT NOT NULL, time REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX ended_sessions_by_peer ON ended_sessions (peer_id, time);
CREATE TABLE files (
  id INTEGER PRIMARY KEY, path TEXT NOT NULL, folded TEXT NOT NULL, folded_name TEXT NOT NULL,
  content_id BLOB NOT NULL, size INTEGER NOT NULL, age REAL NOT NULL,
  UNIQUE (content_id, path)
) STRICT;
CREATE INDEX files_by_age ON files (age, path, content_id);
CREATE INDEX files_by_folded ON files (folded);
CREATE INDEX files_by_folded_name ON files (folded_name);
CREATE TABLE entries (
  library INTEGER NOT NULL REFERENCES libraries, path TEXT NOT NULL, file_id INTEGER NOT NULL REFERENCES files,
  modify_time REAL NOT NULL, executable INTEGER NOT NULL,
  PRIMARY KEY (library, path)
) STRICT, WITHOUT ROWID;
CREATE INDEX entries_by_file ON entries (file_id, library, modify_time, executable);
CREATE TABLE stored (
  library INTEGER NOT NULL REFERENCES libraries, content_id BLOB NOT NULL,
  PRIMARY KEY (library, content_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX stored_by_content ON stored (content_id, library);
CREATE TABLE placements (
  number INTEGER PRIMARY KEY, placement_id TEXT NOT NULL UNIQUE, author TEXT NOT NULL, content_id BLOB NOT NULL,
  file_id INTEGER NOT NULL REFERENCES files, wanted INTEGER NOT NULL,
  modify_time REAL NOT NULL, executable INTEGER NOT NULL,
  UNIQUE (author, content_id)
) STRICT;
CREATE INDEX placements_by_file ON placements (file_id);
CREATE INDEX placements_by_content ON placements (content_id);
CREATE TABLE chosen (
  placement INTEGER NOT NULL REFERENCES placements ON DELETE CASCADE, peer_id TEXT NOT NULL,
  declined INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (placement, peer_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX chosen_by_peer ON chosen (peer_id);
CREATE VIRTUAL TABLE grams USING fts5 (
  folded, content = 'files', content_rowid = 'id', detail = none, columnsize = 0,
  tokenize = 'trigram case_sensitive 1'
);
INSERT INTO receipts VALUES ('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', '00000000000000000000000000000000', X'6C6F67696E', 1700000000.0);
INSERT INTO receipts VALUES ('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', '11111111111111111111111111111111', X'7075626C6973686564', 1700000001.0);
INSERT INTO receipts VALUES ('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', '22222222222222222222222222222222', X'706C61636564', 1700000002.0);
INSERT INTO receipts VALUES ('bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', '00000000000000000000000000000000', X'6C6F67696E', 1700000000.0);
INSERT INTO receipts VALUES ('bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', '33333333333333333333333333333333', X'73746F726564', 1700000003.0);
INSERT INTO libraries VALUES (1, 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 1700000001.0);
INSERT INTO libraries VALUES (2, 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 1700000003.0);
INSERT INTO libraries VALUES (3, 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', NULL);
INSERT INTO libraries VALUES (4, 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', NULL);
INSERT INTO peers VALUES ('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', X'6B6579206F662061', 3, 1, 2);
INSERT INTO peers VALUES ('bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', X'6B6579206F662062', 4, 1, 0);
INSERT INTO live VALUES (3, 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'ana', '["192.0.2.1:7401"]', 1, 1700000000.0, 1099511627776, '', '');
INSERT INTO live VALUES (4, 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'bea', '["192.0.2.2:7401"]', 2, 1700000000.0, 1099511627776, '', '');
INSERT INTO files VALUES (1, 'señal/ñ.txt', 'señal/ñ.txt', 'ñ.txt', X'0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A', 10, -1700000001.0);
INSERT INTO files VALUES (2, 'two.bin', 'two.bin', 'two.bin', X'BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB', 8589934592, -1700000001.0);
INSERT INTO entries VALUES (3, 'señal/ñ.txt', 1, 1600000000.5, 0);
INSERT INTO entries VALUES (3, 'two.bin', 2, 1600000001.0, 1);
INSERT INTO stored VALUES (4, X'0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A');
INSERT INTO placements VALUES (1, '11111111111111111111111111111111', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', X'0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A', 1, 3, 1600000000.5, 0);
INSERT INTO chosen VALUES (1, 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 0);
INSERT INTO grams (rowid, folded) SELECT id, folded FROM files;
PRAGMA user_version = 1;
