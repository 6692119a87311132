-- depends_on: {{ ref('int_data_measured') }}: refused data do not replace this table.
with

products_keyed as (

    select
        product_id,
        basket_count
    from {{ ref('int_products_keyed') }}

),

catalogue as (

    select
        product_id,
        category_code,
        product_name
    from {{ ref('stg_products') }}

),

joined as (

    select
        coalesce(catalogue.product_id, products_keyed.product_id) as product_id,
        catalogue.product_name,
        catalogue.category_code,
        coalesce(products_keyed.basket_count, 0) as basket_count,
        catalogue.product_id is not null as is_in_catalogue
    from catalogue
    full outer join products_keyed
        on catalogue.product_id = products_keyed.product_id

)

select * from joined
