# Who deploys from GitHub: the workflows of one repository on its main branch, without a key. All of it is left out where
# github_repository is empty.

locals {
  deployers = toset(var.github_repository == "" ? [] : [var.github_repository])
}

resource "google_service_account" "deployer" {
  for_each = local.deployers

  account_id   = "taxi-deployer"
  display_name = "taxi-assets: deployment from GitHub"

  depends_on = [google_project_service.api]
}

resource "google_iam_workload_identity_pool" "github" {
  for_each = local.deployers

  workload_identity_pool_id = "taxi-github"

  depends_on = [google_project_service.api]
}

resource "google_iam_workload_identity_pool_provider" "github" {
  for_each = local.deployers

  workload_identity_pool_id          = google_iam_workload_identity_pool.github[each.key].workload_identity_pool_id
  workload_identity_pool_provider_id = "github"
  attribute_condition                = "assertion.repository == '${each.key}' && assertion.ref == 'refs/heads/main'"

  attribute_mapping = {
    "google.subject"       = "assertion.sub"
    "attribute.repository" = "assertion.repository"
  }

  oidc {
    issuer_uri = "https://token.actions.githubusercontent.com"
  }
}

# The workflow becomes the service account.
resource "google_service_account_iam_member" "github" {
  for_each = local.deployers

  service_account_id = google_service_account.deployer[each.key].name
  role               = "roles/iam.workloadIdentityUser"
  member             = "principalSet://iam.googleapis.com/${google_iam_workload_identity_pool.github[each.key].name}/attribute.repository/${each.key}"
}

# Reaches the machine's SSH through the proxy.
resource "google_iap_tunnel_instance_iam_member" "deployer" {
  for_each = local.deployers

  zone     = google_compute_instance.taxi.zone
  instance = google_compute_instance.taxi.name
  role     = "roles/iap.tunnelResourceAccessor"
  member   = google_service_account.deployer[each.key].member
}

# Logs in there, as one who may run taxi-deploy with sudo.
resource "google_compute_instance_iam_member" "deployer" {
  for_each = local.deployers

  zone          = google_compute_instance.taxi.zone
  instance_name = google_compute_instance.taxi.name
  role          = "roles/compute.osAdminLogin"
  member        = google_service_account.deployer[each.key].member
}

# OS Login asks for this of whoever logs in to a machine with a service account: there they can act as it.
resource "google_service_account_iam_member" "deployer_acts_as_vm" {
  for_each = local.deployers

  service_account_id = google_service_account.taxi.name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.deployer[each.key].member
}

# `gcloud compute ssh` looks the machine up.
resource "google_project_iam_member" "deployer_looks" {
  for_each = local.deployers

  project = var.project_id
  role    = "roles/compute.viewer"
  member  = google_service_account.deployer[each.key].member
}
