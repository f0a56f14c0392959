"""`timeline`: a picture of what happens where while conversations stream in."""
