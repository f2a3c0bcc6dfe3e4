"""Decode a remote file from some ranges of its bytes: its index, and the packets that are to be decoded.

file        a file of which only some bytes are here, and that asks for others
mp4         the index of an MP4 file without its payload
fragments   the same of a fragmented MP4 file: of the fragments around the wanted times
cues        Matroska and WebM: the packets around the wanted times
groups      which groups of pictures are wanted, and where in the file they lie
feed        packets by their position, as `vidpipe.decode.feed` gives them of a local file
"""
