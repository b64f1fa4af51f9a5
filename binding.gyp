# For node-gyp and what drives it. The build itself is CMake's, so that the sources are listed once.
{
  "targets": [
    {
      "target_name": "attention",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake",
          "inputs": ["CMakeLists.txt"],
          "outputs": ["<(PRODUCT_DIR)/attention.node"],
          "action": ["node", "scripts/task.mjs", "gyp", "<(PRODUCT_DIR)"]
        }
      ]
    }
  ]
}
