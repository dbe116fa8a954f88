"""Label sources, and the one number per candidate that training and tables read from their rows."""
