"""One module for each document, table or picture of measured figures."""
