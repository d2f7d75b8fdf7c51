"""Who gets a place and a turn: what one process of a user asks for does not keep the user's other processes out."""
