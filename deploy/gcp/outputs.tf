output "address" {
  description = "Where the A record of the site must point."
  value       = google_compute_address.site.address
}

output "site" {
  description = "The UI."
  value       = "https://${var.site}"
}

output "show_login" {
  description = "The command that shows the password of the UI."
  value       = "gcloud secrets versions access latest --project ${var.project_id} --secret ${google_secret_manager_secret.password["login"].secret_id}"
}

output "ssh" {
  description = "The command that logs in to the machine."
  value       = "gcloud compute ssh ${google_compute_instance.taxi.name} --project ${var.project_id} --zone ${var.zone} --tunnel-through-iap"
}

output "database" {
  description = "The private address of the database, for those in the network."
  value       = google_sql_database_instance.taxi.private_ip_address
}

output "github_variables" {
  description = "The repository variables that deployment from GitHub needs."
  value = {
    for repository in local.deployers : repository => {
      GCP_PROJECT_ID                 = var.project_id
      GCP_ZONE                       = var.zone
      GCP_VM                         = google_compute_instance.taxi.name
      GCP_DEPLOYER                   = google_service_account.deployer[repository].email
      GCP_WORKLOAD_IDENTITY_PROVIDER = google_iam_workload_identity_pool_provider.github[repository].name
    }
  }
}
