"""How an attribution passes back through a net."""
