"use strict";
(() => {
  const PAGE_ROWS = 25;
  const data = JSON.parse(document.getElementById("videos-data").textContent);
  const byId = (id) => document.getElementById(id);
  const comparable = (value) => (value === null || value === "" || Number.isNaN(value) ? null : value);
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));

  // Empty cells stay at the end, whichever way a column is sorted.
  const ordered = (items, keyOf, descending) =>
    items
      .map((item, place) => [item, comparable(keyOf(item)), place])
      .sort(([, a, i], [, b, j]) => {
        if (a === null || b === null) return (a === null) - (b === null) || i - j;
        return (descending ? compare(b, a) : compare(a, b)) || i - j;
      })
      .map(([item]) => item);

  const sortable = (table, onSort) => {
    const heads = [...table.querySelectorAll("thead th")];
    heads.forEach((head, column) => {
      const button = head.querySelector("button");
      if (!button) return;
      button.addEventListener("click", () => {
        const now = head.getAttribute("aria-sort");
        const first = head.dataset.first || "ascending";
        const other = first === "ascending" ? "descending" : "ascending";
        const direction = now === first ? other : first;
        heads.forEach((each) => each.hasAttribute("aria-sort") && each.setAttribute("aria-sort", "none"));
        head.setAttribute("aria-sort", direction);
        onSort(column, direction === "descending");
      });
    });
  };

  document.querySelectorAll("table.sortable").forEach((table) => {
    const body = table.tBodies[0];
    const keyOf = (column) => (row) => {
      const cell = row.cells[column];
      return "value" in cell.dataset ? (cell.dataset.value === "" ? null : Number(cell.dataset.value)) : cell.textContent.trim();
    };
    sortable(table, (column, descending) => body.append(...ordered([...body.rows], keyOf(column), descending)));
  });

  // The table of all videos: rows are made for the page in view only.
  const form = byId("filters");
  const videos = byId("videos-table");
  if (!form || !videos) return;
  const [NAME, TRUTH, LABEL, SCORE, OUTCOME, CODE] = [0, 1, 2, 3, 4, 5];
  const label = (index) => (index < 0 ? "" : data.labels[index]);
  const columns = [
    (row) => row[NAME],
    (row) => label(row[TRUTH]),
    (row) => label(row[LABEL]),
    (row) => row[SCORE],
    (row) => data.outcomes[row[OUTCOME]] + (row[CODE] < 0 ? "" : " " + data.codes[row[CODE]]),
  ];
  let rows = data.rows;
  let shown = rows;
  let page = 0;

  const cell = (text, className, title) => {
    const made = document.createElement("td");
    made.textContent = text;
    if (className) made.className = className;
    if (title) made.dataset.title = title;
    return made;
  };

  const draw = () => {
    const numPages = Math.max(1, Math.ceil(shown.length / PAGE_ROWS));
    page = Math.min(Math.max(page, 0), numPages - 1);
    const made = shown.slice(page * PAGE_ROWS, (page + 1) * PAGE_ROWS).map((row) => {
      const line = document.createElement("tr");
      line.append(cell(row[NAME], "name"));
      if (data.has_truth) line.append(cell(label(row[TRUTH]), "", "true"));
      line.append(cell(label(row[LABEL]), "", "label"));
      line.append(cell(row[SCORE] === null ? "" : (100 * row[SCORE]).toFixed(1) + " %", "number", "score"));
      const outcome = document.createElement("td");
      const chip = document.createElement("span");
      chip.className = "chip " + data.outcomes[row[OUTCOME]];
      chip.textContent = data.outcomes[row[OUTCOME]];
      outcome.append(chip, row[CODE] < 0 ? "" : " " + data.codes[row[CODE]]);
      line.append(outcome);
      return line;
    });
    videos.tBodies[0].replaceChildren(...made);
    byId("page-label").textContent = `page ${page + 1} of ${numPages}`;
    byId("previous").disabled = page === 0;
    byId("next").disabled = page >= numPages - 1;
  };

  const matches = (truth, given, outcome, name) => {
    const wantedClass = form.elements.class.value;
    const wantedOutcome = form.elements.status.value;
    const text = form.elements.text.value.trim().toLowerCase();
    return (
      (wantedClass === "" || truth === Number(wantedClass) || given === Number(wantedClass)) &&
      (wantedOutcome === "" || outcome === Number(wantedOutcome)) &&
      (text === "" || name.toLowerCase().includes(text))
    );
  };

  const films = [...document.querySelectorAll("article.film")];
  const groups = [...document.querySelectorAll(".group")];
  const filter = () => {
    shown = rows.filter((row) => matches(row[TRUTH], row[LABEL], row[OUTCOME], row[NAME]));
    films.forEach((film) => {
      const { truth, label: given, outcome, name } = film.dataset;
      film.hidden = !matches(Number(truth), Number(given), Number(outcome), name);
    });
    groups.forEach((group) => {
      const empty = group.querySelector(".empty");
      if (empty) empty.hidden = [...group.querySelectorAll("article.film")].some((film) => !film.hidden);
    });
    byId("count").textContent = `${shown.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} videos`;
    page = 0;
    draw();
  };

  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  byId("clear").addEventListener("click", () => {
    form.reset();
    filter();
  });
  byId("previous").addEventListener("click", () => { page -= 1; draw(); });
  byId("next").addEventListener("click", () => { page += 1; draw(); });
  const keys = data.has_truth ? columns : columns.filter((_, index) => index !== TRUTH);
  sortable(videos, (column, descending) => {
    rows = ordered(rows, keys[column], descending);
    filter();
  });
  document.querySelectorAll("button[data-class]").forEach((button) =>
    button.addEventListener("click", () => {
      form.elements.class.value = button.dataset.class;
      form.elements.status.value = button.dataset.status || "";
      filter();
      byId("videos").scrollIntoView();
      form.elements.class.focus({ preventScroll: true });
    })
  );
  filter();
})();
