-- What comes by inbox is found by whose it is. `request.leaves`: 0 asks to be let in, 1 to be a member no more, 2 hands a
-- key, 3 asks for one. See NOTES.md.

CREATE INDEX request_author ON request (space, leaves, author);
