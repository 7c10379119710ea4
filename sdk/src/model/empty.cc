namespace thole {}
