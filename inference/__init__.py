"""The reader: from a study and an examination to a report. Heavy parts are imported when they are called."""
