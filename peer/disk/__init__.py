"""Files and databases of this machine: names beneath a root, copies, and what errors of the disk mean."""
