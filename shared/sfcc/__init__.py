"""The client of Salesforce B2C Commerce: typed requests and answers, errors sorted, nothing decided."""
