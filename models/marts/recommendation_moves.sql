with

recommendations as (

    select
        product_id,
        recommended_product_id,
        recommendation_rank,
        copurchase_count,
        recommendation_source
    from {{ ref('product_recommendations') }}

),

published_recommendations as (

    select
        product_id,
        recommended_product_id,
        recommendation_rank,
        copurchase_count
    from {{ ref('stg_published_recommendations') }}

),

-- Lists of both builds: in a new or a gone list everything has moved.
changed_lists as (

    select product_id
    from {{ ref('recommendation_changes') }}
    where list_change in ('reordered', 'changed')

),

lists as (

    select
        product_id,
        count(*) as recommendation_count
    from recommendations
    group by product_id

),

published_lists as (

    select
        product_id,
        count(*) as recommendation_count,
        min(copurchase_count) as least_copurchase_count
    from published_recommendations
    group by product_id

),

blocked as (

    select
        product_id,
        recommended_product_id
    from {{ ref('int_recommendations_blocked') }}

),

product_changes as (

    select
        product_id,
        product_change
    from {{ ref('product_changes') }}

),

catalogue as (

    select product_id from {{ ref('stg_products') }}

),

published_catalogue as (

    select product_id
    from {{ ref('stg_published_products') }}
    where is_in_catalogue

),

compared as (

    select
        coalesce(current_row.product_id, published_row.product_id) as product_id,
        coalesce(current_row.recommended_product_id, published_row.recommended_product_id)
            as recommended_product_id,
        current_row.recommendation_rank,
        published_row.recommendation_rank as published_recommendation_rank,
        current_row.copurchase_count,
        published_row.copurchase_count as published_copurchase_count,
        current_row.recommendation_source
    from recommendations as current_row
    full outer join published_recommendations as published_row
        on
            current_row.product_id = published_row.product_id
            and current_row.recommended_product_id = published_row.recommended_product_id
    where
        current_row.recommendation_rank is distinct from published_row.recommendation_rank

),

explained as (

    select
        compared.product_id,
        compared.recommended_product_id,
        compared.recommendation_rank,
        compared.published_recommendation_rank,
        compared.copurchase_count,
        compared.published_copurchase_count,
        case
            when compared.recommendation_source = 'pinned' then 'pin'
            when compared.recommendation_rank is null and blocked.product_id is not null
                then 'block'
            when product_changes.product_change = 'new' then 'new product'
            when catalogue.product_id is null then 'left the product list'
            when published_catalogue.product_id is null then 'joined the product list'
            when compared.copurchase_count > compared.published_copurchase_count then 'new sales'
            when compared.copurchase_count < compared.published_copurchase_count
                then 'fewer sales'
            -- A list with room to spare has every product that any basket holds with it.
            when
                compared.recommendation_rank is null
                and lists.recommendation_count < {{ var('recommendations_per_product') }}
                then 'fewer sales'
            when
                compared.published_recommendation_rank is null
                and (
                    compared.copurchase_count > published_lists.least_copurchase_count
                    or published_lists.recommendation_count
                    < {{ var('recommendations_per_product') }}
                )
                then 'new sales'
            else 'others moved'
        end as move_reason
    from compared
    semi join changed_lists
        on compared.product_id = changed_lists.product_id
    inner join lists
        on compared.product_id = lists.product_id
    inner join published_lists
        on compared.product_id = published_lists.product_id
    left join blocked
        on
            compared.product_id = blocked.product_id
            and compared.recommended_product_id = blocked.recommended_product_id
    left join product_changes
        on compared.recommended_product_id = product_changes.product_id
    left join catalogue
        on compared.recommended_product_id = catalogue.product_id
    left join published_catalogue
        on compared.recommended_product_id = published_catalogue.product_id

)

select * from explained
