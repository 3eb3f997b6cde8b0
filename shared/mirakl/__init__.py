"""The client of Mirakl's seller API: typed requests and answers, errors sorted, nothing decided."""
