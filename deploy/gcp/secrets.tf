# Passwords are made here and kept in Secret Manager alone: "ephemeral" and "_wo" (write-only) values are in no plan and
# in no state. A new one is made when password_version is raised.

locals {
  passwords = toset(["admin", "dagster", "loader", "reader", "login"])
}

ephemeral "random_password" "new" {
  for_each = local.passwords

  length  = 32
  special = false # so that it can stand in a URL as it is
}

resource "google_secret_manager_secret" "password" {
  for_each = local.passwords

  secret_id = "taxi-${each.key}-password"

  replication {
    auto {}
  }

  depends_on = [google_project_service.api]
}

resource "google_secret_manager_secret_version" "password" {
  for_each = local.passwords

  secret                 = google_secret_manager_secret.password[each.key].id
  secret_data_wo         = ephemeral.random_password.new[each.key].result
  secret_data_wo_version = var.password_version
}

# Read back from where it is kept: were it taken from the generator, an apply that breaks off between the two would
# leave the server with one password and the secret with another.
ephemeral "google_secret_manager_secret_version" "admin" {
  secret  = google_secret_manager_secret.password["admin"].id
  version = google_secret_manager_secret_version.password["admin"].version
}

# The machine reads each of these secrets, and no other of the project: it makes the roles, logs in as two of them, and
# guards the UI.
resource "google_secret_manager_secret_iam_member" "taxi" {
  for_each = local.passwords

  secret_id = google_secret_manager_secret.password[each.key].id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.taxi.member
}
