SELECT DATE({pickup}) AS day, COUNT(*) AS trips FROM {staging} GROUP BY day ORDER BY day
