SELECT DISTINCT date_trunc('month', {pickup})::date AS month FROM strays ORDER BY month
