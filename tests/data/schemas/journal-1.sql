CREATE TABLE accepted (number INTEGER PRIMARY KEY, transfer_id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,
    request BLOB NOT NULL, start_time REAL NOT NULL, priority INTEGER NOT NULL, paused INTEGER NOT NULL);
CREATE TABLE ended (number INTEGER PRIMARY KEY, transfer_id TEXT NOT NULL UNIQUE, transfer BLOB NOT NULL);
INSERT INTO accepted VALUES (1, 'cccccccccccccccccccccccccccccccc', 'relevo.v1.StartDownloadRequest', X'0A0178', 1700000000.0, 2, 1);
INSERT INTO accepted VALUES (2, 'dddddddddddddddddddddddddddddddd', 'relevo.v1.StartDownloadRequest', X'0A0179', 1700000001.0, 1, 0);
INSERT INTO ended VALUES (1, 'eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee', X'0A20656565656565656565656565656565656565656565656565656565656565656522017A');
PRAGMA application_id = 1380272716;
PRAGMA user_version = 1;
