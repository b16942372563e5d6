"""Tables of data that packages of Debian bring, for csv: and text: sources."""
