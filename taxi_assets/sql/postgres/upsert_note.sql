INSERT INTO taxi.notes VALUES ({name}, {note}) ON CONFLICT (name) DO UPDATE SET note = excluded.note
