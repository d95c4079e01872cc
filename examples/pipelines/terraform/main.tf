# The post-renderer judges what the Helm provider is about to send and stops it (docs/helm-plugin.md). It runs on the machine of
# Terraform, reads no command line of Helm, and takes the cluster from a kubeconfig: so the place is named.
terraform {
  required_version = ">= 1.9"
  required_providers {
    helm = {
      source  = "hashicorp/helm"
      version = "~> 3.1"
    }
  }
}

variable "kube_context" {
  type        = string
  description = "Context of the kubeconfig, for the provider and for the post-renderer alike."
}

provider "helm" {
  kubernetes = {
    config_path    = pathexpand("~/.kube/config")
    config_context = var.kube_context
  }
}

resource "helm_release" "milvus" {
  name       = "my-release"
  namespace  = "milvus"
  repository = "https://zilliztech.github.io/milvus-helm"
  chart      = "milvus"
  version    = "4.2.58"
  timeout    = 3600

  set = [
    { name = "image.all.tag", value = "v2.5.27" },
  ]

  postrender = {
    # A link to milvus-guard under this name, on PATH.
    binary_path = "helm-guard-post-render"
    args        = ["--namespace=milvus", "--kube-context=${var.kube_context}"]
  }
}
