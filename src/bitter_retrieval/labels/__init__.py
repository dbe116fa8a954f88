"""Label sources, and how their rows become the one number a candidate that training and tables read."""
